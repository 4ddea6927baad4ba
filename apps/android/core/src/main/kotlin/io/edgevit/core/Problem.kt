package io.edgevit.core

/** What stops the app, as one sentence that names the mend. */
class Problem(message: String, cause: Throwable? = null) : Exception(message, cause)

internal inline fun demand(holds: Boolean, sentence: () -> String) {
    if (!holds) throw Problem(sentence())
}
