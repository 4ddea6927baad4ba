package io.edgevit.app

import androidx.activity.ComponentActivity
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import io.edgevit.core.Pixels
import java.util.concurrent.Executor

/** The back camera: shown in [view], and told to [seen], image by image on [worker]'s thread, upright. */
class Camera(
    private val activity: ComponentActivity,
    private val view: PreviewView,
    private val worker: Executor,
    private val seen: (Pixels) -> Unit,
) {
    private var provider: ProcessCameraProvider? = null

    /** [absent] is called where there is no such camera. */
    fun start(absent: () -> Unit) {
        val future = ProcessCameraProvider.getInstance(activity)
        future.addListener({ bind(future.get(), absent) }, { view.post(it) })
    }

    fun stop() {
        provider?.unbindAll()
    }

    private fun bind(found: ProcessCameraProvider, absent: () -> Unit) {
        provider = found
        if (!found.hasCamera(CameraSelector.DEFAULT_BACK_CAMERA)) return absent()
        val preview = Preview.Builder().build()
        preview.surfaceProvider = view.surfaceProvider
        val analysis = ImageAnalysis.Builder()
            .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
            .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
            .build()
        analysis.setAnalyzer(worker) { image -> image.use { seen(pixels(it)) } }
        found.unbindAll()
        found.bindToLifecycle(activity, CameraSelector.DEFAULT_BACK_CAMERA, preview, analysis)
    }

    private fun pixels(image: ImageProxy): Pixels {
        val plane = image.planes[0]
        val pixels = Pixels.rgba(plane.buffer, image.width, image.height, plane.rowStride)
        return pixels.turned(image.imageInfo.rotationDegrees)
    }
}
