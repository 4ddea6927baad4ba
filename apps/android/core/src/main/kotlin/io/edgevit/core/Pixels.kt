package io.edgevit.core

import java.nio.ByteBuffer

/** An image of 8-bit RGB: three bytes a pixel, row by row. */
class Pixels(val width: Int, val height: Int, val rgb: ByteArray = ByteArray(width * height * 3)) {
    /** The red, green and blue of the pixel at [x], [y], whose bytes begin at [from] of [source]. */
    internal fun set(x: Int, y: Int, source: ByteArray, from: Int) {
        System.arraycopy(source, from, rgb, (y * width + x) * 3, 3)
    }

    /** This image turned clockwise by a multiple of 90 degrees. */
    fun turned(degrees: Int): Pixels {
        if (degrees == 0) return this
        val turned = if (degrees == 180) Pixels(width, height) else Pixels(height, width)
        for (y in 0 until height) {
            for (x in 0 until width) {
                val from = (y * width + x) * 3
                when (degrees) {
                    90 -> turned.set(height - 1 - y, x, rgb, from)
                    180 -> turned.set(width - 1 - x, height - 1 - y, rgb, from)
                    270 -> turned.set(y, width - 1 - x, rgb, from)
                    else -> throw IllegalArgumentException("$degrees degrees")
                }
            }
        }
        return turned
    }

    companion object {
        /** From RGBA, whose rows begin [rowStride] bytes apart, as a camera delivers it. */
        fun rgba(buffer: ByteBuffer, width: Int, height: Int, rowStride: Int): Pixels {
            val pixels = Pixels(width, height)
            val row = ByteArray(width * 4)
            for (y in 0 until height) {
                buffer.position(y * rowStride)
                buffer.get(row)
                for (x in 0 until width) pixels.set(x, y, row, 4 * x)
            }
            return pixels
        }

        /** From rows of 0xAARRGGBB, which [row] fills one at a time: a photo's two copies would not both fit. */
        fun argb(width: Int, height: Int, row: (y: Int, argb: IntArray) -> Unit): Pixels {
            val pixels = Pixels(width, height)
            val argb = IntArray(width)
            for (y in 0 until height) {
                row(y, argb)
                for (x in 0 until width) {
                    val at = (y * width + x) * 3
                    pixels.rgb[at] = (argb[x] shr 16).toByte()
                    pixels.rgb[at + 1] = (argb[x] shr 8).toByte()
                    pixels.rgb[at + 2] = argb[x].toByte()
                }
            }
            return pixels
        }
    }
}
