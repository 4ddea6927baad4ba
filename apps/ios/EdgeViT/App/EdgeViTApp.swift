import EdgeViTCore
import SwiftUI

@main
struct EdgeViTApp: App {
    var body: some Scene {
        WindowGroup {
            if CommandLine.arguments.contains(ScriptedRun.flag) {
                ScriptedRunView()
            } else {
                HomeView()
            }
        }
    }
}

/// The screens, or what to run where there is no bundle.
struct HomeView: View {
    var body: some View {
        switch InstalledBundle.ofThisApp {
        case .success(let installed):
            TabView {
                ClassifyView(installed: installed).tabItem { Label("Classify", systemImage: "camera") }
                BenchmarkView(installed: installed).tabItem { Label("Benchmark", systemImage: "stopwatch") }
            }
        case .failure(let error):
            ContentUnavailableView(
                "No model", systemImage: "shippingbox", description: Text(error.localizedDescription))
        }
    }
}
