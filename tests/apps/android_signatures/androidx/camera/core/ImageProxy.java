package androidx.camera.core;

import java.nio.ByteBuffer;

public interface ImageProxy extends AutoCloseable {
    void close();

    int getHeight();

    ImageInfo getImageInfo();

    PlaneProxy[] getPlanes();

    int getWidth();

    interface PlaneProxy {
        ByteBuffer getBuffer();

        int getRowStride();
    }
}
