package org.pytorch.executorch;

public class Module {
    public static final int LOAD_MODE_MMAP = 1;

    public native void destroy();

    public native EValue[] forward(EValue... inputs);

    public static native Module load(String modelPath, int loadMode, int numThreads);

    public native void loadMethod(String methodName);
}
