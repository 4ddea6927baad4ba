package io.edgevit.core

import java.io.File

private const val SHORTEST_MINUTES = 2.0 // a first and a last minute

/** What is to be measured. Throws Problem for what cannot be. */
class Settings(
    val runtime: String,
    val threads: Int,
    val runs: Int = 480,
    val seconds: Double = 5.0,
    val minutes: Double = 0.0,
) {
    init {
        demand(runtime in RUNTIMES) { "there is no runtime $runtime: choose ${RUNTIMES.joinToString(" or ")}" }
        demand(threads > 0) { "$threads threads are too few: ask for 1 or more" }
        demand(runs > 0) { "$runs runs are too few: ask for 1 or more" }
        demand(seconds in 0.0..LONGEST_S) { "$seconds seconds cannot be timed: ask for 0 to $LONGEST_S" }
        demand(minutes == 0.0 || minutes >= SHORTEST_MINUTES) {
            "$minutes minutes have no first and last one: ask for 0, or for 2 or more"
        }
    }
}

/** A file of [folder], which appears whole. Throws Problem for a [name] that is more than a file's. */
class ResultFile(private val folder: File, private val name: String) {
    init {
        demand(Regex("[A-Za-z0-9_-][A-Za-z0-9._-]*").matches(name) && ".." !in name) {
            "$name is no plain name of a file: name the result as in result.json"
        }
    }

    /** Takes away an earlier result, which would be taken for the one to come. */
    fun clear() {
        val file = File(folder, name)
        demand(!file.exists() || file.delete()) { "$file cannot be deleted: delete it, and measure again" }
    }

    fun write(text: String) {
        val staged = File(folder, "$name.part")
        staged.writeText(text)
        demand(staged.renameTo(File(folder, name))) { "$name cannot be written to $folder: free some storage" }
    }
}
