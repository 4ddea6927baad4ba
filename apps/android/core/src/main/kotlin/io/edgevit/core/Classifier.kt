package io.edgevit.core

import java.io.Closeable

private const val SHOWN = 5

/** Says what an image shows, by a model that a runtime has loaded. */
class Classifier(
    private val bundle: Bundle,
    private val session: Session,
    private val clock: Clock = System::nanoTime,
) : Closeable by session {
    /** The likeliest classes with their probabilities, and what the model took without the preprocessing. */
    class Answer(val likeliest: List<Pair<String, Double>>, val ms: Double)

    fun classify(image: Pixels): Answer {
        val input = bundle.preprocess(image)
        val start = clock()
        val logits = session(input)
        val ms = (clock() - start) / 1e6
        val probabilities = softmax(logits)
        return Answer(top(probabilities, SHOWN).map { bundle.label(it) to probabilities[it] }, ms)
    }
}
