package io.edgevit.core

import java.io.File
import org.json.JSONArray
import org.json.JSONObject

/** The vectors that every app is tested with. */
object Golden {
    private val folder = File(System.getProperty("golden"))
    val vectors = JSONObject(File(folder, "golden.json").readText())

    fun bytes(name: String): ByteArray = File(folder, name).readBytes()

    fun objects(name: String): List<JSONObject> = vectors.getJSONArray(name).let { all ->
        (0 until all.length()).map(all::getJSONObject)
    }
}

fun JSONArray.doubles() = DoubleArray(length(), ::getDouble)

/** A null is a number that is not finite. */
fun JSONArray.floats() = FloatArray(length()) { if (isNull(it)) Float.NaN else getDouble(it).toFloat() }
