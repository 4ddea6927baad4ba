package io.edgevit.core

import java.nio.ByteBuffer
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class PixelsTest {
    private val image = Pixels(3, 2, ByteArray(18) { it.toByte() }) // pixels that begin with 0 3 6 and 9 12 15

    @Test
    fun `rows of a camera may be longer than the image`() {
        val rows = byteArrayOf(1, 2, 3, -1, 4, 5, 6, -1, 0, 0, 7, 8, 9, -1, 10, 11, 12, -1, 0, 0)
        val pixels = Pixels.rgba(ByteBuffer.wrap(rows), 2, 2, rowStride = 10)
        assertArrayEquals(ByteArray(12) { (it + 1).toByte() }, pixels.rgb)
    }

    @Test
    fun `a photo's pixels are red, green and blue`() {
        val pixels = Pixels.argb(2, 2) { y, row -> row[0] = 0xFF010203.toInt() + y; row[1] = 0x00FF8040 + y }
        assertArrayEquals(byteArrayOf(1, 2, 3, -1, -128, 64, 1, 2, 4, -1, -128, 65), pixels.rgb)
    }

    @Test
    fun `a photo is turned as EXIF says`() {
        val upright = listOf(1, 0, 9, -1).map(Orientation::of)
        assertEquals(List(4) { Orientation(0) }, upright)
        assertEquals(listOf(180, 90, 270), listOf(3, 6, 8).map { Orientation.of(it).degrees })
        assertEquals(List(3) { false }, listOf(3, 6, 8).map { Orientation.of(it).mirrored })
        assertEquals(listOf(0, 180, 90, 270), listOf(2, 4, 5, 7).map { Orientation.of(it).degrees })
        assertEquals(List(4) { true }, listOf(2, 4, 5, 7).map { Orientation.of(it).mirrored })
    }

    @Test
    fun `an image is turned clockwise`() {
        assertEquals(listOf(0, 3, 6, 9, 12, 15), begins(image.turned(0)))
        assertEquals(listOf(9, 0, 12, 3, 15, 6), begins(image.turned(90)))
        assertEquals(listOf(15, 12, 9, 6, 3, 0), begins(image.turned(180)))
        assertEquals(listOf(6, 15, 3, 12, 0, 9), begins(image.turned(270)))
        assertEquals(2 to 3, image.turned(90).let { it.width to it.height })
    }

    private fun begins(pixels: Pixels) = pixels.rgb.toList().chunked(3) { it.first().toInt() }
}
