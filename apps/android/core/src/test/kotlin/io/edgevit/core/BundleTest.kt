package io.edgevit.core

import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class BundleTest {
    private val good = Golden.objects("bundles").first().getJSONObject("bundle").toString()

    @Test
    fun `what is wrong is named`() {
        val vectors = Golden.objects("bundles")
        assertEquals(12, vectors.count { !it.isNull("problem") })
        for (vector in vectors) {
            val text = vector.getJSONObject("bundle").toString()
            if (vector.isNull("problem")) {
                Bundle.parse(text)
            } else {
                val word = vector.getString("problem")
                val sentence = problem { Bundle.parse(text) }
                assertTrue("$word is not in: $sentence", word in sentence)
            }
        }
    }

    @Test
    fun `all of it is read`() {
        val bundle = Bundle.parse(good)
        assertEquals(listOf("0.1.0", "efficientvit_m0", "int8"), listOf(bundle.edgevit, bundle.model, bundle.quant))
        assertEquals(32, bundle.input.size)
        assertEquals("image", bundle.input.name)
        assertEquals("\u9774", bundle.label(2))
        assertEquals(Interpolation.BICUBIC, bundle.preprocess.interpolation)
        assertEquals(24.5, bundle.model("onnx").minSqnrDb, 0.0)
        assertEquals(setOf("reference.f32", "onnx/model.onnx", "reference-onnx.f32"), bundle.files().keys)
    }

    @Test
    fun `classes without names have numbers`() {
        assertEquals("class 2", Bundle.parse(changed { put("labels", JSONObject.NULL) }).label(2))
    }

    @Test
    fun `a runtime without a model is named beside those that have one`() {
        assertEquals(
            "executorch has no model in this app: choose onnx",
            problem { Bundle.parse(good).model("executorch") },
        )
    }

    @Test
    fun `no path leads out of the bundle`() {
        for (path in listOf("../secret", "onnx/../../secret", "/secret", "")) {
            val text = changed { getJSONObject("reference").put("file", path) }
            assertTrue(problem { Bundle.parse(text) }.startsWith("the path $path in bundle.json"))
        }
    }

    @Test
    fun `what is no bundle is refused`() {
        for (text in listOf("", "[]", "{}", good.dropLast(1))) {
            assertTrue(problem { Bundle.parse(text) }.startsWith("bundle.json cannot be read"))
        }
    }

    private fun changed(change: JSONObject.() -> Unit) = JSONObject(good).apply(change).toString()
}

/** The sentence that [act] fails with. */
fun problem(act: () -> Unit): String = assertThrows(Problem::class.java) { act() }.message!!
