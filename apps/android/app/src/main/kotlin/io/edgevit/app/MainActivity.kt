package io.edgevit.app

import android.Manifest
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.util.Log
import android.view.View
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts
import io.edgevit.core.Classifier
import io.edgevit.core.Pixels
import java.util.concurrent.Executors
import kotlin.math.min

private const val TAG = "edgevit"
private const val MOST_THREADS = 4 // the fast cores of most phones

/** Says what the camera sees, or what a photo shows. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor() // to which the classifier belongs
    private var classifier: Classifier? = null
    private var runtimes = emptyList<String>()
    private val answers by lazy { findViewById<TextView>(R.id.answers) }
    private val picture by lazy { findViewById<ImageView>(R.id.picture) }
    private val runtime by lazy { findViewById<Button>(R.id.runtime) }
    private val camera by lazy {
        Camera(this, findViewById(R.id.preview), worker) { image -> if (watching) guarded { classify(image) } }
    }
    @Volatile private var watching = false // a photo's answers stay until the camera is asked for

    private val permission = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) camera.start { answers.setText(R.string.no_camera) } else answers.setText(R.string.no_permission)
    }
    private val picker = registerForActivityResult(ActivityResultContracts.PickVisualMedia()) { uri ->
        if (uri != null) show(uri)
    }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        runtime.setOnClickListener {
            val next = runtimes[(runtimes.indexOf(runtime.text.toString()) + 1) % runtimes.size]
            work { open(next) }
        }
        findViewById<Button>(R.id.photo).setOnClickListener {
            val images = ActivityResultContracts.PickVisualMedia.ImageOnly
            picker.launch(PickVisualMediaRequest.Builder().setMediaType(images).build())
        }
        findViewById<Button>(R.id.camera).setOnClickListener { watch() }
        findViewById<Button>(R.id.benchmark).setOnClickListener {
            startActivity(Intent(this, BenchmarkActivity::class.java))
        }
        work { open(Phone.store(this).bundle.models.keys.first()) }
        watch()
    }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun watch() {
        picture.visibility = View.GONE
        watching = true
        permission.launch(Manifest.permission.CAMERA)
    }

    private fun show(uri: Uri) {
        watching = false
        camera.stop()
        work {
            val photo = photo(contentResolver, uri)
            runOnUiThread {
                picture.setImageBitmap(photo)
                picture.visibility = View.VISIBLE
            }
            classify(photo.pixels())
        }
    }

    /** Away from the user interface. */
    private fun work(act: () -> Unit) = worker.execute { guarded(act) }

    /** The user is told what goes wrong. */
    private fun guarded(act: () -> Unit) {
        try {
            act()
        } catch (error: Exception) {
            Log.e(TAG, sentence(error), error)
            runOnUiThread { answers.text = sentence(error) }
        }
    }

    private fun open(name: String) {
        classifier?.close()
        classifier = null
        val store = Phone.store(this)
        runOnUiThread {
            runtimes = store.bundle.models.keys.toList()
            runtime.text = name
            runtime.isEnabled = true
        }
        store.check(listOf(name))
        val threads = min(MOST_THREADS, Runtime.getRuntime().availableProcessors())
        classifier = Classifier(store.bundle, Phone(this).load(name, store.model(name), store.bundle, threads))
    }

    private fun classify(image: Pixels) {
        val answer = classifier?.classify(image) ?: return
        val lines = answer.likeliest.map { (name, probability) -> "%5.1f %%  %s".format(100 * probability, name) }
        runOnUiThread { answers.text = (lines + "%.1f ms".format(answer.ms)).joinToString("\n") }
    }
}
