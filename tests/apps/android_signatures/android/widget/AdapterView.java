package android.widget;

import android.content.Context;
import android.util.AttributeSet;
import android.view.ViewGroup;

public abstract class AdapterView<T extends Adapter> extends ViewGroup {
    public AdapterView(Context context, AttributeSet attrs) {
        super(context, attrs);
    }

    public abstract T getAdapter();

    public native Object getSelectedItem();

    public abstract void setAdapter(T adapter);
}
