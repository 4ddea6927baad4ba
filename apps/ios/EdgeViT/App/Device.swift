import EdgeViTCore
import Foundation

extension Device {
    /// This one.
    static var current: Device {
        #if targetEnvironment(simulator)
        let name = ProcessInfo.processInfo.environment["SIMULATOR_MODEL_IDENTIFIER"] ?? machine
        let emulated: String? = "iOS Simulator"
        #else
        let name = machine
        let emulated: String? = nil
        #endif
        return Device(
            name: name, os: "iOS \(systemVersion)", soc: nil, arch: arch, cores: ProcessInfo.processInfo.processorCount,
            emulated: emulated)
    }

    static var systemVersion: String {
        let version = ProcessInfo.processInfo.operatingSystemVersion
        return "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
    }

    /// The most bytes that this process has held.
    static var peakMemory: Int {
        var usage = rusage()
        getrusage(RUSAGE_SELF, &usage)
        return usage.ru_maxrss
    }

    /// Such as iPhone16,1.
    private static var machine: String {
        var size = 0
        sysctlbyname("hw.machine", nil, &size, nil, 0)
        var name = [CChar](repeating: 0, count: size)
        sysctlbyname("hw.machine", &name, &size, nil, 0)
        return String(cString: name)
    }

    private static var arch: String {
        #if arch(arm64)
        "aarch64"  // as everywhere else
        #else
        "x86_64"
        #endif
    }
}

extension ProcessInfo.ThermalState {
    /// In the words of a result.
    var told: Thermal.State {
        switch self {
        case .nominal: .nominal
        case .fair: .fair
        case .serious: .serious
        case .critical: .critical
        @unknown default: .critical
        }
    }
}
