import EdgeViTCore
import PhotosUI
import SwiftUI

/// The camera's picture or a chosen photo, and what the model says of it.
struct ClassifyView: View {
    let installed: InstalledBundle

    @State private var choice: Choice
    @State private var classifier: Classifier
    @State private var camera = Camera()
    @State private var item: PhotosPickerItem?
    @State private var photo: UIImage?
    @State private var classification: Classification?
    @State private var problem: String?

    init(installed: InstalledBundle) {
        self.installed = installed
        _choice = State(initialValue: Choice(runtime: installed.runtimes[0]))
        _classifier = State(initialValue: Classifier(installed: installed))
    }

    var body: some View {
        NavigationStack {
            List {
                Section { picture }
                Section {
                    if let problem { Text(problem).foregroundStyle(.red) }
                    ForEach(classification?.answers ?? []) { AnswerRow(answer: $0) }
                } footer: {
                    if let classification {
                        Text("\(classification.ms, format: .number.precision(.fractionLength(2))) ms")
                    }
                }
                Section { ChoicePicker(runtimes: installed.runtimes, choice: $choice) }
            }
            .navigationTitle(installed.bundle.model)
            .toolbar {
                if photo != nil { Button("Camera", systemImage: "camera") { item = nil } }
                PhotosPicker(selection: $item, matching: .images) { Label("Photo", systemImage: "photo") }
            }
        }
        .task(id: Shown(choice: choice, item: item)) { await classify() }
        .onDisappear { camera.stop() }
    }

    @ViewBuilder private var picture: some View {
        if let photo {
            Image(uiImage: photo).resizable().scaledToFit().frame(maxWidth: .infinity, maxHeight: 320)
        } else {
            CameraPreview(session: camera.session).frame(height: 320).listRowInsets(EdgeInsets())
        }
    }

    /// Anew whenever one of them changes.
    private struct Shown: Hashable {
        let choice: Choice
        let item: PhotosPickerItem?
    }

    private func classify() async {
        problem = nil
        classification = nil
        do {
            if let item {
                try await classify(item)
            } else {
                try await classifyFrames()
            }
        } catch is CancellationError {
            return  // something else is shown now
        } catch {
            problem = error.localizedDescription
        }
    }

    private func classify(_ item: PhotosPickerItem) async throws {
        camera.stop()
        guard let data = try await item.loadTransferable(type: Data.self) else {
            throw Problem("This photo cannot be read: choose another.")
        }
        photo = UIImage(data: data)
        classification = try await classifier.classify(Pixels(photo: data), with: choice)
    }

    private func classifyFrames() async throws {
        photo = nil
        for await frame in try await camera.frames() {
            let found = try await classifier.classify(frame, with: choice)
            try Task.checkCancellation()
            classification = found
        }
    }
}

/// A class, and how probable it is.
struct AnswerRow: View {
    let answer: Classification.Answer

    var body: some View {
        VStack(alignment: .leading) {
            LabeledContent(answer.label) {
                Text(answer.probability, format: .percent.precision(.fractionLength(1))).monospacedDigit()
            }
            ProgressView(value: min(max(answer.probability, 0), 1))
        }
    }
}
