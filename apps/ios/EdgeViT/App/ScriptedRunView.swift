import EdgeViTCore
import SwiftUI

/// Runs the benchmark that the launch arguments ask for, writes its result into Documents, and ends the app.
struct ScriptedRunView: View {
    var body: some View {
        ProgressView("A benchmark runs. The app ends by itself.")
            .task {
                UIApplication.shared.isIdleTimerDisabled = true
                exit(await run(CommandLine.arguments))
            }
    }

    /// The exit code: whether there is a result.
    private func run(_ arguments: [String]) async -> Int32 {
        let file = URL.documentsDirectory.appending(path: ScriptedRun.resultName(in: arguments))
        do {
            if FileManager.default.fileExists(atPath: file.path) {
                try FileManager.default.removeItem(at: file)  // it would pass for this run's if the app were killed
            }
            try await json(arguments).write(to: file, options: .atomic)
            return EXIT_SUCCESS
        } catch {
            print(error.localizedDescription)
            do {
                try BenchmarkResult.json(of: error).write(to: file, options: .atomic)
            } catch {
                print(error.localizedDescription)
            }
            return EXIT_FAILURE
        }
    }

    private func json(_ arguments: [String]) async throws -> Data {
        let asked = try ScriptedRun(arguments: arguments)
        let installed = try InstalledBundle.ofThisApp.get()
        return try await installed.benchmark(Choice(runtime: asked.runtime, units: asked.units), asked.plan) { phase in
            print(phase.rawValue)
        }.result.json()
    }
}
