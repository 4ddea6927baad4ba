package io.edgevit.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONObject
import org.junit.rules.TemporaryFolder

/** A bundle as `edgevit bundle` writes it: a model of two pixels' size and three classes. */
fun TemporaryFolder.bundle(vararg runtimes: String): File {
    val folder = newFolder("assets")
    val json = JSONObject(Golden.objects("bundles").first().getJSONObject("bundle").toString())
    json.getJSONObject("preprocess").put("resize", 2).put("crop", 2)
    json.getJSONObject("input").getJSONArray("shape").put(2, 2).put(3, 2)
    json.put("reference", folder.blob("reference.f32", floats(*FloatArray(12) { it.toFloat() })))
    val models = JSONObject()
    for (runtime in runtimes) {
        val model = folder.blob("$runtime/model", runtime.toByteArray())
        models.put(
            runtime,
            JSONObject()
                .put("path", model.getString("file"))
                .put("files", JSONObject().put(model.getString("file"), model.getString("sha256")))
                .put("bytes", runtime.length)
                .put("reference", folder.blob("reference-$runtime.f32", floats(1f, 2f, 3f)))
                .put("min_sqnr_db", 17.0),
        )
    }
    File(folder, "bundle.json").writeText(json.put("models", models).toString())
    return folder
}

fun floats(vararg values: Float): ByteArray =
    ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).apply { asFloatBuffer().put(values) }.array()

private fun File.blob(path: String, bytes: ByteArray): JSONObject {
    File(this, path).apply { parentFile!!.mkdirs() }.writeBytes(bytes)
    return JSONObject().put("file", path).put("sha256", sha256(bytes.inputStream()))
}
