package androidx.camera.core;

import java.util.concurrent.Executor;

public final class ImageAnalysis extends UseCase {
    public static final int OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2;
    public static final int STRATEGY_KEEP_ONLY_LATEST = 0;

    public native void setAnalyzer(Executor executor, Analyzer analyzer);

    public interface Analyzer {
        void analyze(ImageProxy image);
    }

    public static final class Builder {
        public native ImageAnalysis build();

        public native Builder setBackpressureStrategy(int strategy);

        public native Builder setOutputImageFormat(int outputImageFormat);
    }
}
