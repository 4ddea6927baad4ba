package io.edgevit.app

import io.edgevit.core.Input
import io.edgevit.core.Session
import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/** A model in ExecuTorch, which `edgevit export` lowered to XNNPACK. */
class ExecuTorchSession(model: File, input: Input, threads: Int) : Session {
    private val module = Module.load(model.path, Module.LOAD_MODE_MMAP, threads)
    private val values = Tensor.allocateFloatBuffer(input.values)
    private val shape = longArrayOf(1, 3, input.size.toLong(), input.size.toLong())
    private val tensor = EValue.from(Tensor.fromBlob(values, shape))

    init {
        module.loadMethod("forward") // else the first call would
    }

    override val runtime = "executorch"
    override val version: String = BuildConfig.EXECUTORCH
    override val delegate = "XNNPACK"

    override fun invoke(input: FloatArray): FloatArray {
        values.rewind()
        values.put(input)
        values.rewind()
        return module.forward(tensor)[0].toTensor().dataAsFloatArray
    }

    override fun close() {
        module.destroy()
    }
}
