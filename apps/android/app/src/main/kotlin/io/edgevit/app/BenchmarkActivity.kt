package io.edgevit.app

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.util.Log
import android.view.WindowManager
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.Spinner
import android.widget.TextView
import io.edgevit.core.Problem
import io.edgevit.core.RUNTIMES
import io.edgevit.core.ResultFile
import io.edgevit.core.Settings
import io.edgevit.core.Timeline
import io.edgevit.core.benchmark
import java.time.Instant
import java.time.temporal.ChronoUnit
import java.util.concurrent.Executors
import java.util.concurrent.Future
import org.json.JSONObject

private const val TAG = "edgevit"
private val MINUTES = listOf("0", "2", "5", "10", "30")

/** Measures a model, as its user or the intent that starts it asks, and leaves the result in the app's own folder. */
class BenchmarkActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var measuring: Future<*>? = null
    private val outcome by lazy { findViewById<TextView>(R.id.outcome) }
    private val plot by lazy { findViewById<LatencyPlot>(R.id.plot) }
    private val share by lazy { findViewById<Button>(R.id.share) }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.benchmark)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON) // a dark screen slows the processor
        val runtime = choice(R.id.runtime, RUNTIMES)
        val threads = choice(R.id.threads, (1..Runtime.getRuntime().availableProcessors()).map(Int::toString))
        val minutes = choice(R.id.minutes, MINUTES)
        findViewById<Button>(R.id.run).setOnClickListener {
            val chosen = listOf(runtime, threads, minutes).map { it.selectedItem.toString() }
            measure("result.json") {
                Settings(chosen[0], threads = chosen[1].toInt(), minutes = chosen[2].toDouble())
            }
        }
        if (state == null) obey(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        obey(intent)
    }

    override fun onDestroy() {
        worker.shutdownNow()
        super.onDestroy()
    }

    private fun choice(id: Int, choices: List<String>): Spinner =
        findViewById<Spinner>(id).apply {
            adapter = ArrayAdapter(context, android.R.layout.simple_spinner_dropdown_item, choices)
        }

    /** An intent that names a result is a script's order. */
    private fun obey(intent: Intent) {
        val name = intent.getStringExtra("result") ?: return
        measure(name) {
            Settings(
                runtime = intent.getStringExtra("runtime") ?: throw Problem("name a runtime: --es runtime onnx"),
                threads = intent.getIntExtra("threads", 1),
                runs = intent.getIntExtra("runs", 480),
                seconds = intent.getFloatExtra("seconds", 5f).toDouble(),
                minutes = intent.getFloatExtra("minutes", 0f).toDouble(),
            )
        }
    }

    /** In the place of a measurement that still goes on. */
    private fun measure(name: String, settings: () -> Settings) {
        measuring?.cancel(true)
        outcome.setText(R.string.measuring)
        share.isEnabled = false
        val timeline = Timeline()
        plot.timeline = timeline
        measuring = worker.submit {
            try {
                val folder = getExternalFilesDir(null) ?: throw Problem(getString(R.string.no_storage))
                val file = ResultFile(folder, name)
                file.clear()
                val result = result(settings, timeline)
                file.write(result.toString(1))
                runOnUiThread { show(result) }
            } catch (error: InterruptedException) {
                Log.i(TAG, "the measurement was ended", error)
            } catch (error: Exception) { // of which no file can tell
                Log.e(TAG, sentence(error), error)
                runOnUiThread { outcome.text = sentence(error) }
            }
        }
    }

    /** What was measured, or why nothing was. */
    private fun result(settings: () -> Settings, timeline: Timeline): JSONObject =
        try {
            val start = System.nanoTime()
            val now = Instant.now().truncatedTo(ChronoUnit.SECONDS).toString()
            benchmark(Phone.store(this), settings(), Phone(this), now) { ms ->
                timeline.heard((System.nanoTime() - start) / 1e9, ms)
            }
        } catch (error: InterruptedException) {
            throw error
        } catch (error: Exception) {
            Log.e(TAG, sentence(error), error)
            JSONObject().put("error", sentence(error))
        }

    private fun show(result: JSONObject) {
        val text = result.toString(1)
        outcome.text = if (result.has("error")) result.getString("error") else summary(result)
        share.isEnabled = !result.has("error")
        share.setOnClickListener {
            val sent = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, text)
            startActivity(Intent.createChooser(sent, null))
        }
    }
}

private fun summary(result: JSONObject): String {
    val latency = result.getJSONObject("latency")
    val parity = result.getJSONObject("parity")
    val times = listOf("p50", "p90", "p99").joinToString { "$it %.2f ms".format(latency.getDouble("${it}_ms")) }
    val holds = if (parity.getBoolean("holds")) "holds" else "does not hold"
    val least = "%.1f dB".format(parity.getDouble("min_sqnr_db"))
    val near = if (parity.isNull("sqnr_db")) "not finite" else "%.1f of $least".format(parity.getDouble("sqnr_db"))
    val sustained = result.optJSONObject("sustained") ?: return "$times\nparity $holds, $near"
    val minutes = listOf("first", "last").joinToString {
        "$it minute %.2f ms".format(sustained.getDouble("${it}_minute_p50_ms"))
    }
    return "$times\n$minutes\nparity $holds, $near"
}
