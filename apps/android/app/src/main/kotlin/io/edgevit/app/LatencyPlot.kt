package io.edgevit.app

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import io.edgevit.core.Timeline
import kotlin.math.max

private const val REFRESH_MS = 1000L

/** Latency over time, from 0 ms at the bottom: a timeline that grows while it is shown. */
class LatencyPlot(context: Context, attributes: AttributeSet) : View(context, attributes) {
    private val density = resources.displayMetrics.density
    private val line = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = Color.rgb(0x7F, 0xD1, 0xAE)
        strokeWidth = 2 * density
    }
    private val words = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = Color.GRAY
        textSize = 12 * density
    }

    var timeline = Timeline()
        set(value) {
            field = value
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val points = timeline.points()
        if (points.isNotEmpty()) draw(canvas, points)
        postInvalidateDelayed(REFRESH_MS)
    }

    private fun draw(canvas: Canvas, points: List<Timeline.Point>) {
        val most = points.maxOf { it.ms }
        val last = max(points.last().second, 1)
        val top = 2 * words.textSize
        val places = points.map {
            Pair(width * it.second / last.toFloat(), height - (height - top) * (it.ms / most).toFloat())
        }
        for ((from, to) in places.zipWithNext()) canvas.drawLine(from.first, from.second, to.first, to.second, line)
        canvas.drawText("%.2f ms".format(most), 0f, words.textSize, words)
        val seconds = "$last s"
        canvas.drawText(seconds, width - words.measureText(seconds), words.textSize, words)
    }
}
