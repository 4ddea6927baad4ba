package android.view;

import android.content.Context;
import android.content.res.Resources;
import android.graphics.Canvas;
import android.util.AttributeSet;

public class View {
    public static final int GONE = 8;
    public static final int VISIBLE = 0;

    public View(Context context, AttributeSet attrs) {}

    public final native Context getContext();

    public final native int getHeight();

    public native Resources getResources();

    public native int getVisibility();

    public final native int getWidth();

    public native void invalidate();

    public native boolean isEnabled();

    protected native void onDraw(Canvas canvas);

    public native boolean post(Runnable action);

    public native void postInvalidateDelayed(long delayMilliseconds);

    public native void setEnabled(boolean enabled);

    public native void setOnClickListener(OnClickListener l);

    public native void setVisibility(int visibility);

    public interface OnClickListener {
        void onClick(View v);
    }
}
