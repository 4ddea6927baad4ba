package androidx.camera.view;

import android.content.Context;
import android.util.AttributeSet;
import androidx.camera.core.Preview;

public final class PreviewView extends android.widget.FrameLayout {
    public PreviewView(Context context, AttributeSet attrs) {
        super(context, attrs);
    }

    public native Preview.SurfaceProvider getSurfaceProvider();
}
