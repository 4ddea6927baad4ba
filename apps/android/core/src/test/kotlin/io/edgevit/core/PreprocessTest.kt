package io.edgevit.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class PreprocessTest {
    @Test
    fun `every value is the host's`() {
        val picture = Golden.vectors.getJSONObject("image")
        val image = Pixels(picture.getInt("width"), picture.getInt("height"), Golden.bytes(picture.getString("file")))
        val vectors = Golden.objects("preprocess")
        assertEquals(6, vectors.size)
        for (vector in vectors) {
            val told = vector.getJSONObject("preprocess")
            val preprocess = Preprocess(
                told.getInt("resize"),
                told.getInt("crop"),
                Interpolation.valueOf(told.getString("interpolation").uppercase()),
                told.getJSONArray("mean").doubles().toList(),
                told.getJSONArray("std").doubles().toList(),
            )
            val name = vector.getString("tensor")
            assertArrayEquals(name, Golden.bytes(name), floats(*preprocess(image)))
        }
    }
}
