package io.edgevit.core

import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class SettingsTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `what cannot be measured is refused`() {
        Settings("onnx", threads = 4, minutes = 2.0)
        assertTrue(problem { Settings("coreml", 1) }.startsWith("there is no runtime coreml"))
        assertTrue(problem { Settings("onnx", 0) }.startsWith("0 threads"))
        assertTrue(problem { Settings("onnx", 1, runs = 0) }.startsWith("0 runs"))
        assertTrue(problem { Settings("onnx", 1, seconds = -1.0) }.startsWith("-1.0 seconds"))
        assertTrue(problem { Settings("onnx", 1, seconds = 61.0) }.startsWith("61.0 seconds"))
        assertTrue(problem { Settings("onnx", 1, minutes = 1.9) }.startsWith("1.9 minutes"))
    }

    @Test
    fun `a result has a plain name`() {
        for (name in listOf("../result.json", "a/b", "..", ".", "", ".hidden", "a..b", "a b", "a\u0000")) {
            assertTrue(name, "no plain name" in problem { ResultFile(temporary.root, name) })
        }
    }

    @Test
    fun `a result takes the place of an earlier one`() {
        val file = ResultFile(temporary.root, "result-1.json")
        file.clear()
        file.write("first")
        file.write("second")
        assertEquals("second", File(temporary.root, "result-1.json").readText())
        assertArrayEquals(arrayOf("result-1.json"), temporary.root.list())
        file.clear()
        assertFalse(File(temporary.root, "result-1.json").exists())
    }

    @Test
    fun `the device is told in the contract's words`() {
        assertEquals("Android emulator", emulated("ranchu", "sdk_gphone64_x86_64"))
        assertEquals("Android emulator", emulated("cheets", "sdk_gphone_x86"))
        assertNull(emulated("qcom", "husky"))
        assertEquals(
            listOf("nominal", "fair", "fair", "serious", "critical", "critical", "critical"),
            (0..6).map(::thermalState),
        )
        assertEquals(2048L, peakBytes("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t      2 kB\nVmRSS:\t 1 kB\n"))
        assertNull(peakBytes("Name:\tx\n"))
    }
}
