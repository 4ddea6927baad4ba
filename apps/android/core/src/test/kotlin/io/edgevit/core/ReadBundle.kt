package io.edgevit.core

import java.io.File
import org.json.JSONObject

/** Installs a bundle as the app does, from the folder of its assets into another, and says what it was. */
fun main(folders: Array<String>) {
    val store = Store.install(File(folders[1])) { File(folders[0], it).inputStream() }
    store.check()
    val said = JSONObject().put("model", store.bundle.model).put("size", store.bundle.input.size)
    for (runtime in store.bundle.models.keys) {
        val probabilities = softmax(store.logits(runtime))
        said.put(runtime, top(probabilities, 1).single()).put("label", store.bundle.label(top(probabilities, 1).single()))
    }
    println(said.put("first", store.input().first().toDouble()))
}
