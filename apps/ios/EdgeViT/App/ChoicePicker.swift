import EdgeViTCore
import SwiftUI

/// Picks a runtime of those that the bundle has a model for, and Core ML's processors.
struct ChoicePicker: View {
    let runtimes: [Runtime]
    @Binding var choice: Choice

    var body: some View {
        Picker("Runtime", selection: $choice.runtime) {
            ForEach(runtimes) { Text($0.title).tag($0) }
        }
        if choice.runtime == .coreml {
            Picker("Processors", selection: $choice.units) {
                ForEach(ComputeUnits.allCases) { Text($0.title).tag($0) }
            }
        }
    }
}
