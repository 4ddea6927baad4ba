package org.pytorch.executorch;

public class EValue {
    public static native EValue from(Tensor value);

    public native Tensor toTensor();
}
