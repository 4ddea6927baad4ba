package io.edgevit.app

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import android.net.Uri
import io.edgevit.core.Orientation
import io.edgevit.core.Pixels
import io.edgevit.core.Problem

private const val MAX_PIXELS = 24_000_000 // what an app's memory holds and a view draws

/** A photo, upright. */
fun photo(resolver: ContentResolver, uri: Uri): Bitmap {
    val size = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    decode(resolver, uri, size)
    if (size.outWidth.toLong() * size.outHeight > MAX_PIXELS) {
        throw Problem("the photo has more than ${MAX_PIXELS / 1_000_000} million pixels: choose a smaller one")
    }
    val stored = decode(resolver, uri, BitmapFactory.Options())
        ?: throw Problem("the photo cannot be read: choose another")
    return stored.turned(orientation(resolver, uri))
}

/** Its colours, without its alpha. */
fun Bitmap.pixels(): Pixels = Pixels.argb(width, height) { y, row -> getPixels(row, 0, width, 0, y, width, 1) }

private fun Bitmap.turned(how: Orientation): Bitmap {
    if (how == Orientation(0)) return this
    val matrix = Matrix()
    matrix.setRotate(how.degrees.toFloat())
    if (how.mirrored) matrix.postScale(-1f, 1f)
    return Bitmap.createBitmap(this, 0, 0, width, height, matrix, false)
}

private fun orientation(resolver: ContentResolver, uri: Uri): Orientation =
    resolver.openInputStream(uri)!!.use {
        val exif = ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
        Orientation.of(exif)
    }

private fun decode(resolver: ContentResolver, uri: Uri, options: BitmapFactory.Options): Bitmap? =
    resolver.openInputStream(uri).use { BitmapFactory.decodeStream(it, null, options) }
