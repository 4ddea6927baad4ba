package io.edgevit.app

import android.content.Context
import android.os.Build
import android.os.PowerManager
import io.edgevit.core.Bundle
import io.edgevit.core.Device
import io.edgevit.core.Host
import io.edgevit.core.Problem
import io.edgevit.core.Session
import io.edgevit.core.Store
import io.edgevit.core.emulated
import io.edgevit.core.peakBytes
import io.edgevit.core.thermalState
import java.io.File

/** The device that the app runs on, and the runtimes in the app. */
class Phone(private val context: Context) : Host {
    override val device = Device(
        name = "${Build.MANUFACTURER} ${Build.MODEL}",
        os = "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})",
        soc = soc(),
        arch = System.getProperty("os.arch"),
        cores = Runtime.getRuntime().availableProcessors(),
        emulated = emulated(Build.HARDWARE, Build.PRODUCT),
    )

    override val fresh get() = !loaded

    override fun thermal(): String? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return null
        return thermalState(context.getSystemService(PowerManager::class.java).currentThermalStatus)
    }

    override fun peakBytes(): Long? = peakBytes(File("/proc/self/status").readText())

    override fun load(runtime: String, model: File, bundle: Bundle, threads: Int): Session {
        loaded = true
        return try {
            when (runtime) {
                "onnx" -> OnnxSession(model, bundle.input, threads)
                "executorch" -> ExecuTorchSession(model, bundle.input, threads)
                else -> throw IllegalArgumentException(runtime)
            }
        } catch (error: Exception) {
            throw Problem("$runtime does not load the model ($error): export it for the version in this app", error)
        }
    }

    private fun soc(): String? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.S) return null
        val known = listOf(Build.SOC_MANUFACTURER, Build.SOC_MODEL).filter { it != Build.UNKNOWN }
        return known.joinToString(" ").ifEmpty { null }
    }

    companion object {
        @Volatile private var loaded = false

        /** The bundle in the app's assets, on the device's storage. */
        fun store(context: Context): Store = Store.install(context.filesDir) { context.assets.open("bundle/$it") }
    }
}
