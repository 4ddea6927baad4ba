import EdgeViTCore
import Foundation

/// What a model says of an image.
struct Classification {
    struct Answer: Identifiable {
        let id: Int
        let label: String
        let probability: Double
    }

    /// The five of the largest probabilities.
    let answers: [Answer]
    /// How long the model took, without the preparation of its input.
    let ms: Double
}

/// Holds a loaded model, and runs it off the main thread, one image at a time.
actor Classifier {
    private let installed: InstalledBundle
    private var loaded: (choice: Choice, model: any EdgeViTCore.Model)?

    init(installed: InstalledBundle) {
        self.installed = installed
    }

    func classify(_ image: Pixels, with choice: Choice) async throws -> Classification {
        let model = try await model(choice)
        let input = installed.bundle.preprocess(image)
        let start = Timing.uptime()
        let logits = try model.logits(of: input)
        let ms = Double(Timing.uptime() - start) / 1e6
        let probabilities = try softmax(logits)
        let answers = top(5, of: probabilities).map { category in
            Classification.Answer(
                id: category, label: installed.bundle.label(of: category), probability: probabilities[category])
        }
        return Classification(answers: answers, ms: ms)
    }

    private func model(_ choice: Choice) async throws -> any EdgeViTCore.Model {
        if let loaded, loaded.choice == choice { return loaded.model }
        let model = try await installed.loader(choice)()
        loaded = (choice, model)
        return model
    }
}
