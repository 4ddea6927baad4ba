package io.edgevit.core

import java.io.Closeable
import java.io.File
import org.json.JSONObject

/** A model that a runtime has loaded. */
interface Session : Closeable {
    /** Such as `onnxruntime`. */
    val runtime: String
    val version: String

    /** What computes: `CPU` or `XNNPACK`. */
    val delegate: String

    /** Logits of the input's values. */
    operator fun invoke(input: FloatArray): FloatArray
}

/** The device, as a benchmark needs it. */
interface Host {
    val device: Device

    /** Whether this process has loaded no model yet: what one did to its peak hides what the next does. */
    val fresh: Boolean

    /** As [thermalState] names them, or null where the device does not say. */
    fun thermal(): String?

    /** The peak of this process's memory so far in bytes, or null. */
    fun peakBytes(): Long?

    fun load(runtime: String, model: File, bundle: Bundle, threads: Int): Session
}

/**
 * Measures a model on the reference input: `result.json`, whose `created` is [now].
 *
 * [heard] is told what each call took, in milliseconds. Interrupting the thread ends it with InterruptedException.
 */
fun benchmark(
    store: Store,
    settings: Settings,
    host: Host,
    now: String,
    clock: Clock = System::nanoTime,
    heard: (Double) -> Unit = {},
): JSONObject {
    store.check(listOf(settings.runtime))
    val input = store.input()
    val reference = store.logits(settings.runtime)
    val peak = if (host.fresh) host.peakBytes() else null
    val thermal = host.thermal()
    val began = clock()
    host.load(settings.runtime, store.model(settings.runtime), store.bundle, settings.threads).use { session ->
        val loaded = clock()
        val output = session(input)
        val answered = clock()
        val parity = Parity.of(reference, output, store.bundle.model(settings.runtime).minSqnrDb)
        val protocol = Protocol(clock, { stopIfInterrupted(); heard(it) }) { session(input) }
        val steady = protocol.warmUp()
        val timing = protocol.measure(settings.runs, settings.seconds)
        val sustained = if (settings.minutes > 0) protocol.sustain(settings.minutes) else null
        return result(store.bundle, host.device, now)
            .put("runtime", runtime(session))
            .put("threads", settings.threads)
            .put("parity", parity(parity))
            .put("latency", latency(timing, steady))
            .put("start", start((loaded - began) / 1e6, (answered - loaded) / 1e6))
            .put("memory_mb", peak?.let { before -> host.peakBytes()?.let { (it - before) / 1e6 } }.orNull())
            .put("sustained", sustained?.let(::sustained).orNull())
            .put("thermal", thermal?.let { before -> host.thermal()?.let { thermal(before, it) } }.orNull())
    }
}

private fun stopIfInterrupted() {
    if (Thread.interrupted()) throw InterruptedException()
}
