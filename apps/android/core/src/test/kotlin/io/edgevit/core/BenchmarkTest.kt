package io.edgevit.core

import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class BenchmarkTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var store: Store
    private var now = 0L
    private val phone = Phone()

    @Before
    fun install() {
        val assets = temporary.bundle("onnx")
        store = Store.install(temporary.newFolder("home")) { File(assets, it).inputStream() }
    }

    private fun measured(settings: Settings): JSONObject =
        benchmark(store, settings, phone, "2026-01-31T12:00:00Z", { now })

    @Test
    fun `a result says all of the contract`() {
        val result = measured(Settings("onnx", threads = 2, runs = 30, seconds = 1.0, minutes = 2.0))
        File(System.getProperty("result")).writeText(result.toString(1)) // what Python reads
        assertEquals("efficientvit_m0", result.getString("model"))
        assertEquals("2026-01-31T12:00:00Z", result.getString("created"))
        assertEquals(2, result.getInt("threads"))
        assertEquals("CPU", result.getJSONObject("runtime").getString("delegate"))
        val parity = result.getJSONObject("parity")
        assertEquals(17.481880270062003, parity.getDouble("sqnr_db"), 1e-12)
        assertTrue(parity.getBoolean("top1_matches") && parity.getBoolean("holds"))
        val latency = result.getJSONObject("latency")
        assertEquals(100, latency.getInt("runs"))
        assertEquals(10.0, latency.getDouble("p50_ms"), 0.0)
        assertTrue(latency.getBoolean("steady"))
        assertEquals(250.0, result.getJSONObject("start").getDouble("load_ms"), 0.0)
        assertEquals(10.0, result.getJSONObject("start").getDouble("first_ms"), 0.0)
        assertEquals(3.0, result.getDouble("memory_mb"), 0.0)
        assertEquals(12000, result.getJSONObject("sustained").getInt("calls"))
        assertEquals("nominal", result.getJSONObject("thermal").getJSONObject("before").getString("state"))
        assertEquals("serious", result.getJSONObject("thermal").getJSONObject("after").getString("state"))
        assertTrue(result.getJSONObject("device").isNull("soc"))
        assertTrue(phone.closed)
    }

    @Test
    fun `what the device does not say is null`() {
        phone.tells = false
        val result = measured(Settings("onnx", threads = 1, runs = 1, seconds = 0.0))
        for (key in listOf("memory_mb", "sustained", "thermal")) assertTrue(key, result.has(key) && result.isNull(key))
    }

    @Test
    fun `a second model's memory is not told`() {
        phone.fresh = false
        assertTrue(measured(Settings("onnx", threads = 1, runs = 1, seconds = 0.0)).isNull("memory_mb"))
    }

    @Test
    fun `an answer that is too far away does not hold`() {
        phone.logits = floatArrayOf(1f, 2f, 4f)
        val parity = measured(Settings("onnx", 1, runs = 1, seconds = 0.0)).getJSONObject("parity")
        assertTrue(parity.getBoolean("top1_matches"))
        assertFalse(parity.getBoolean("holds"))
    }

    @Test
    fun `an answer that is not finite is told`() {
        phone.logits = floatArrayOf(1f, 2f, Float.NaN)
        val parity = measured(Settings("onnx", 1, runs = 1, seconds = 0.0)).getJSONObject("parity")
        assertTrue(parity.has("sqnr_db") && parity.isNull("sqnr_db"))
        assertFalse(parity.getBoolean("holds"))
    }

    @Test
    fun `no model runs that is not the bundle's`() {
        store.model("onnx").writeText("other")
        assertTrue(problem { measured(Settings("onnx", 1)) }.startsWith("onnx/model is not the file"))
        assertEquals(0L, now)
    }

    @Test
    fun `an interrupted measurement ends and closes the model`() {
        var calls = 0
        val settings = Settings("onnx", 1)
        assertThrows(InterruptedException::class.java) {
            benchmark(store, settings, phone, "", { now }) { if (++calls == 3) Thread.currentThread().interrupt() }
        }
        assertEquals(3, calls)
        assertTrue(phone.closed)
    }

    /** A device whose model takes 10 ms and answers the same to the reference input, and to nothing else. */
    private inner class Phone : Host {
        var tells = true
        var closed = false
        var logits = floatArrayOf(1f, 2f, 3.5f)
        private val states = ArrayDeque(listOf("nominal", "serious"))
        private val peaks = ArrayDeque(listOf(7_000_000L, 10_000_000L))

        override val device = Device("Maker Phone", "Android 17 (API 37)", null, "aarch64", 8, null)

        override var fresh = true

        override fun thermal() = if (tells) states.removeFirst() else null

        override fun peakBytes() = if (tells) peaks.removeFirst() else null

        override fun load(runtime: String, model: File, bundle: Bundle, threads: Int): Session {
            assertEquals("onnx", model.readText())
            now += 250_000_000
            return object : Session {
                override val runtime = "onnxruntime"
                override val version = "1.0"
                override val delegate = "CPU"

                override fun invoke(input: FloatArray): FloatArray {
                    assertEquals(FloatArray(12) { it.toFloat() }.toList(), input.toList())
                    now += 10_000_000
                    return logits
                }

                override fun close() {
                    closed = true
                }
            }
        }
    }
}
