package io.edgevit.app

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.net.Uri
import io.edgevit.core.Pixels
import io.edgevit.core.Problem

private const val MAX_PIXELS = 24_000_000 // what an app's memory holds and a view draws

/** A photo's pixels as they are stored, its EXIF orientation ignored, as the host does. */
fun photo(resolver: ContentResolver, uri: Uri): Bitmap {
    val size = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    decode(resolver, uri, size)
    if (size.outWidth.toLong() * size.outHeight > MAX_PIXELS) {
        throw Problem("the photo has more than ${MAX_PIXELS / 1_000_000} million pixels: choose a smaller one")
    }
    return decode(resolver, uri, BitmapFactory.Options()) ?: throw Problem("the photo cannot be read: choose another")
}

/** Its colours, without its alpha. */
fun Bitmap.pixels(): Pixels = Pixels.argb(width, height) { y, row -> getPixels(row, 0, width, 0, y, width, 1) }

private fun decode(resolver: ContentResolver, uri: Uri, options: BitmapFactory.Options): Bitmap? =
    resolver.openInputStream(uri).use { BitmapFactory.decodeStream(it, null, options) }
