package io.edgevit.core

import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class StoreTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `the models are copied once and read from there`() {
        val assets = temporary.bundle("onnx", "executorch")
        val home = temporary.newFolder("home")
        val store = Store.install(home) { File(assets, it).inputStream() }
        assertEquals("onnx", store.model("onnx").readText())
        assertArrayEquals(FloatArray(12) { it.toFloat() }, store.input(), 0f)
        assertArrayEquals(floatArrayOf(1f, 2f, 3f), store.logits("executorch"), 0f)
        store.check()

        val opened = mutableListOf<String>()
        Store.install(home) { opened += it; File(assets, it).inputStream() }
        assertEquals(listOf("bundle.json"), opened)
    }

    @Test
    fun `another bundle takes the place of the one before`() {
        val home = temporary.newFolder("home")
        val assets = temporary.bundle("onnx")
        val before = Store.install(home) { File(assets, it).inputStream() }.folder
        assets.deleteRecursively()
        val others = temporary.bundle("executorch")
        val after = Store.install(home) { File(others, it).inputStream() }.folder
        assertFalse(before.exists())
        assertEquals(setOf(after.name, "lock"), home.list()!!.toSet())
    }

    @Test
    fun `a file that is not the bundle's is not kept`() {
        val home = temporary.newFolder("home")
        val assets = temporary.bundle("onnx")
        File(assets, "onnx/model").appendText("!")
        val sentence = problem { Store.install(home) { File(assets, it).inputStream() } }
        assertTrue(sentence, sentence.startsWith("onnx/model is not the file that bundle.json names"))
        File(assets, "onnx/model").writeText("onnx")
        Store.install(home) { File(assets, it).inputStream() }.check()
    }

    @Test
    fun `a file that was damaged since is noticed`() {
        val assets = temporary.bundle("onnx")
        val store = Store.install(temporary.newFolder("home")) { File(assets, it).inputStream() }
        File(store.folder, "reference-onnx.f32").writeBytes(floats(1f, 2f, 4f))
        assertTrue(problem { store.check(listOf("onnx")) }.startsWith("reference-onnx.f32 is not the file"))
    }

    @Test
    fun `an app without a bundle says what to run`() {
        val empty = temporary.newFolder("empty")
        val sentence = problem { Store.install(temporary.newFolder("home")) { File(empty, it).inputStream() } }
        assertTrue(sentence, "edgevit bundle EXPORT --app android" in sentence)
    }

    @Test
    fun `a reference of another length is refused`() {
        val store = Store(Bundle.parse(File(temporary.bundle("onnx"), "bundle.json").readText()), temporary.newFolder())
        File(store.folder, "reference.f32").writeBytes(floats(1f))
        assertTrue(problem { store.input() }.startsWith("reference.f32 has 4 bytes and not those of 12 float32"))
    }
}
