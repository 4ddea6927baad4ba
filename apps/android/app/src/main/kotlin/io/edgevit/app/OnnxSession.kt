package io.edgevit.app

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import io.edgevit.core.Input
import io.edgevit.core.Session
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A model in ONNX Runtime, on its CPU kernels. */
class OnnxSession(model: File, input: Input, threads: Int) : Session {
    private val environment = OrtEnvironment.getEnvironment()
    private val options = OrtSession.SessionOptions().apply { setIntraOpNumThreads(threads) }
    private val session = environment.createSession(model.path, options)
    private val values =
        ByteBuffer.allocateDirect(4 * input.values).order(ByteOrder.nativeOrder()).asFloatBuffer() // read where it lies
    private val shape = longArrayOf(1, 3, input.size.toLong(), input.size.toLong())
    private val inputs = mapOf(input.name to OnnxTensor.createTensor(environment, values, shape))

    override val runtime = "onnxruntime"
    override val version: String = environment.version
    override val delegate = "CPU"

    override fun invoke(input: FloatArray): FloatArray {
        values.rewind()
        values.put(input)
        session.run(inputs).use { outputs ->
            val logits = (outputs[0] as OnnxTensor).floatBuffer
            return FloatArray(logits.remaining()).also { logits.get(it) }
        }
    }

    override fun close() {
        inputs.values.forEach(OnnxTensor::close)
        session.close()
        options.close()
    }
}
