import Charts
import EdgeViTCore
import SwiftUI

/// Times the model by the protocol of all apps, and shows the latency over time.
struct BenchmarkView: View {
    let installed: InstalledBundle

    @State private var choice: Choice
    @State private var minutes = 0.0
    @State private var running: Task<Void, Never>?
    @State private var phase: Benchmark.Phase?
    @State private var result: BenchmarkResult?
    @State private var plot: [TimedCall] = []
    @State private var problem: String?
    @State private var thermal = ProcessInfo.processInfo.thermalState.told

    init(installed: InstalledBundle) {
        self.installed = installed
        _choice = State(initialValue: Choice(runtime: installed.runtimes[0]))
    }

    var body: some View {
        NavigationStack {
            List {
                Section {
                    ChoicePicker(runtimes: installed.runtimes, choice: $choice)
                    Picker("Afterwards", selection: $minutes) {
                        Text("nothing").tag(0.0)
                        Text("2 minutes more").tag(2.0)
                        Text("10 minutes more").tag(10.0)
                    }
                    LabeledContent("Thermal state", value: thermal.rawValue)
                }
                .disabled(running != nil)
                Section { control }
                if let problem { Text(problem).foregroundStyle(.red) }
                if let result { ResultSection(result: result) }
                if !plot.isEmpty { LatencyChart(medians: plot) }
            }
            .navigationTitle("Benchmark")
        }
        .onReceive(NotificationCenter.default.publisher(for: ProcessInfo.thermalStateDidChangeNotification)) { _ in
            Task { @MainActor in thermal = ProcessInfo.processInfo.thermalState.told }
        }
    }

    @ViewBuilder private var control: some View {
        if let running {
            HStack {
                ProgressView()
                Text(phase?.rawValue ?? "preparing")
                Spacer()
                Button("Stop", role: .destructive) { running.cancel() }
            }
        } else {
            Button("Run", systemImage: "play") { running = Task { await run() } }
        }
    }

    private func run() async {
        UIApplication.shared.isIdleTimerDisabled = true
        (result, plot, problem) = (nil, [], nil)
        do {
            let done = try await installed.benchmark(choice, TimingPlan(minutes: minutes)) { phase in
                Task { @MainActor in self.phase = phase }
            }
            try done.result.json().write(to: .documentsDirectory.appending(path: "result.json"), options: .atomic)
            result = done.result
            plot = medians(of: done.calls, spans: 120)
        } catch {
            problem = error is CancellationError ? "Stopped." : error.localizedDescription
        }
        UIApplication.shared.isIdleTimerDisabled = false
        (running, phase) = (nil, nil)
    }
}

/// A result in words.
struct ResultSection: View {
    let result: BenchmarkResult

    var body: some View {
        Section("\(result.runtime.name), \(result.runtime.delegate)") {
            LabeledContent("Parity", value: parity)
            if let latency = result.latency {
                LabeledContent("Median", value: ms(latency.p50))
                LabeledContent("90 % and 99 %", value: "\(ms(latency.p90)), \(ms(latency.p99))")
                LabeledContent("Warm-up", value: latency.steady ? "steady" : "not steady after 10 s")
            }
            if let start = result.start {
                LabeledContent("Load and first call", value: "\(ms(start.load)), \(ms(start.first))")
            }
            if let sustained = result.sustained {
                LabeledContent("First and last minute", value: "\(ms(sustained.firstMinute)), \(ms(sustained.lastMinute))")
            }
            if let thermal = result.thermal {
                LabeledContent("Heat", value: "\(thermal.before.rawValue), then \(thermal.after.rawValue)")
            }
            ShareLink("result.json", item: URL.documentsDirectory.appending(path: "result.json"))
        }
    }

    private var parity: String {
        guard let sqnr = result.parity.sqnr else { return "not finite" }
        let holds = result.parity.holds ? "holds" : "does not hold"
        return "\(sqnr.formatted(.number.precision(.fractionLength(1)))) dB, \(holds)"
    }

    private func ms(_ time: Double) -> String {
        "\(time.formatted(.number.precision(.fractionLength(2)))) ms"
    }
}

/// The medians of equal spans of time.
struct LatencyChart: View {
    let medians: [TimedCall]

    var body: some View {
        Section("Latency over time") {
            Chart(medians, id: \.start) { span in
                LineMark(x: .value("Time, s", span.start), y: .value("Latency, ms", span.ms))
            }
            .chartXAxisLabel("s")
            .chartYAxisLabel("ms")
            .frame(height: 220)
        }
    }
}
