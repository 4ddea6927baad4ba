package android.widget;

import android.content.Context;
import android.util.AttributeSet;
import android.view.View;

public class TextView extends View {
    public TextView(Context context, AttributeSet attrs) {
        super(context, attrs);
    }

    public native CharSequence getText();

    public final native void setText(int resid);

    public final native void setText(CharSequence text);
}
