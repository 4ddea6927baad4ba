package androidx.camera.core;

public final class Preview extends UseCase {
    public native SurfaceProvider getSurfaceProvider();

    public native void setSurfaceProvider(SurfaceProvider surfaceProvider);

    public interface SurfaceProvider {}

    public static final class Builder {
        public native Preview build();
    }
}
