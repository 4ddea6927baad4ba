package io.edgevit.core

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** The runtimes of this app, by their names in `bundle.json`. */
val RUNTIMES = listOf("onnx", "executorch")

private const val AGAIN = "run edgevit bundle again"

/** What `edgevit bundle` wrote, of the models that this app can run. */
class Bundle(
    val edgevit: String,
    val exportSha256: String,
    val model: String,
    val quant: String,
    val input: Input,
    val classes: Int,
    val labels: List<String>?,
    val preprocess: Preprocess,
    val reference: Blob,
    val models: Map<String, Model>,
) {
    /** The model of a runtime. */
    fun model(runtime: String): Model =
        models[runtime]
            ?: throw Problem("$runtime has no model in this app: choose ${models.keys.joinToString(" or ")}")

    /** SHA-256 by path of everything that the models of these runtimes need. */
    fun files(runtimes: Collection<String> = models.keys): Map<String, String> =
        runtimes.map(::model).fold(mapOf(reference.file to reference.sha256)) { files, model ->
            files + model.files + (model.reference.file to model.reference.sha256)
        }

    /** The name of a class, or its number where there are no names. */
    fun label(index: Int): String = labels?.get(index) ?: "class $index"

    companion object {
        /** Reads `bundle.json`. Throws Problem for one that does not say what it must. */
        fun parse(text: String): Bundle =
            try {
                read(JSONObject(text))
            } catch (error: JSONException) {
                throw Problem("bundle.json cannot be read (${error.message}): $AGAIN", error)
            }
    }
}

/** The model's input: float32 `[1, 3, size, size]`. */
class Input(val name: String, val size: Int) {
    val values get() = 3 * size * size
}

/** A file of the bundle and its SHA-256. */
class Blob(val file: String, val sha256: String)

/** A model for one runtime, and what it gives for the reference input on the host that exported it. */
class Model(val path: String, val files: Map<String, String>, val reference: Blob, val minSqnrDb: Double)

private fun read(json: JSONObject): Bundle {
    val schema = json.getInt("schema")
    demand(schema == 1) { "bundle.json has schema $schema and this app reads 1: $AGAIN, with the edgevit of this app" }
    val shape = json.getJSONObject("input").getJSONArray("shape").numbers().map { it.toInt() }
    demand(shape.size == 4 && shape.take(2) == listOf(1, 3) && shape[2] == shape[3]) {
        "the input's shape in bundle.json is $shape and not [1, 3, S, S]: $AGAIN"
    }
    val classes = json.getInt("classes")
    return Bundle(
        edgevit = json.getString("edgevit"),
        exportSha256 = json.getString("export_sha256"),
        model = json.getString("model"),
        quant = json.getString("quant"),
        input = Input(json.getJSONObject("input").getString("name"), shape[2]),
        classes = classes,
        labels = labels(json, classes),
        preprocess = preprocess(json.getJSONObject("preprocess"), shape[2]),
        reference = blob(json.getJSONObject("reference")),
        models = models(json.getJSONObject("models")),
    )
}

private fun labels(json: JSONObject, classes: Int): List<String>? {
    if (json.isNull("labels")) return null
    val labels = json.getJSONArray("labels").strings()
    demand(labels.size == classes) { "bundle.json has ${labels.size} labels for $classes classes: $AGAIN" }
    return labels
}

private fun preprocess(json: JSONObject, size: Int): Preprocess {
    val name = json.getString("interpolation")
    val interpolation = Interpolation.entries.find { it.name.lowercase() == name }
        ?: throw Problem("the interpolation in bundle.json is $name and not bilinear or bicubic: $AGAIN")
    val (mean, std) = listOf("mean", "std").map { json.getJSONArray(it).numbers() }
    demand(mean.size == 3 && std.size == 3 && 0.0 !in std) {
        "mean and std in bundle.json are not three numbers each, or a std is 0: $AGAIN"
    }
    val (resize, crop) = listOf("resize", "crop").map(json::getInt)
    demand(crop == size) { "the crop in bundle.json is $crop and the model's input $size: $AGAIN" }
    demand(resize >= crop) { "the resize in bundle.json, $resize, is less than what is cropped of it, $crop: $AGAIN" }
    return Preprocess(resize, crop, interpolation, mean, std)
}

private fun models(json: JSONObject): Map<String, Model> {
    val models = RUNTIMES.filter(json::has).associateWith { model(json.getJSONObject(it)) }
    demand(models.isNotEmpty()) {
        "there are no models for ${RUNTIMES.joinToString(" or ")} in bundle.json: export one, and $AGAIN"
    }
    return models
}

private fun model(json: JSONObject): Model {
    val files = json.getJSONObject("files")
    return Model(
        path = inside(json.getString("path")),
        files = files.keys().asSequence().associate { inside(it) to files.getString(it) },
        reference = blob(json.getJSONObject("reference")),
        minSqnrDb = json.getDouble("min_sqnr_db"),
    )
}

private fun blob(json: JSONObject) = Blob(inside(json.getString("file")), json.getString("sha256"))

/** The path, if it stays in the bundle's folder. */
private fun inside(path: String): String {
    val steps = path.split("/")
    demand(steps.none { it.isEmpty() || it == "." || it == ".." }) {
        "the path $path in bundle.json leaves the bundle: $AGAIN"
    }
    return path
}

private fun JSONArray.numbers(): List<Double> = (0 until length()).map(::getDouble)

private fun JSONArray.strings(): List<String> = (0 until length()).map(::getString)
