package android.widget;

import android.content.Context;
import android.util.AttributeSet;

public abstract class AbsSpinner extends AdapterView<SpinnerAdapter> {
    public AbsSpinner(Context context, AttributeSet attrs) {
        super(context, attrs);
    }

    public native SpinnerAdapter getAdapter();

    public native void setAdapter(SpinnerAdapter adapter);
}
