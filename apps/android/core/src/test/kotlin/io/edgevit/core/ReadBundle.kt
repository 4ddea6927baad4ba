package io.edgevit.core

import java.io.File
import org.json.JSONObject

/** Installs a bundle as the app does, from the folder of its assets into another, and says what it was. */
fun main(folders: Array<String>) {
    val store = Store.install(File(folders[1])) { File(folders[0], it).inputStream() }
    store.check()
    val said = JSONObject().put("model", store.bundle.model).put("size", store.bundle.input.size)
    for (runtime in store.bundle.models.keys) {
        val first = top(softmax(store.logits(runtime)), 1).single()
        said.put(runtime, first).put("label", store.bundle.label(first))
    }
    println(said.put("first", store.input().first().toDouble()))
}
