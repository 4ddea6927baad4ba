package org.pytorch.executorch;

import java.nio.FloatBuffer;

public abstract class Tensor {
    public static native FloatBuffer allocateFloatBuffer(int numElements);

    public static native Tensor fromBlob(FloatBuffer data, long[] shape);

    public native float[] getDataAsFloatArray();
}
