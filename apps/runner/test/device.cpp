/** What a device tells of itself, read from files like a Raspberry Pi's: `test-device SCRATCH_FOLDER`. */
#include "device.hpp"

#include <fstream>

#include "check.hpp"

namespace {

using namespace edgevit;
using std::filesystem::path;

void write(const path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

void zone(const path& root, int number, const std::string& type, const std::string& temperature) {
  const path folder = root / "sys/class/thermal" / ("thermal_zone" + std::to_string(number));
  write(folder / "type", type + "\n");
  write(folder / "temp", temperature + "\n");
}

void board(const path& root) {
  write(root / "sys/firmware/devicetree/base/model", std::string("Raspberry Pi 4 Model B Rev 1.4\0", 31));
  write(root / "sys/firmware/devicetree/base/compatible", std::string("raspberrypi,4-model-b\0brcm,bcm2711\0", 35));
  const Device device = describe_device(root);
  check::that(device.name == "Raspberry Pi 4 Model B Rev 1.4", "the board's name");
  check::that(device.soc == "brcm,bcm2711", "the board's SoC");
  check::that(!device.emulated && device.cores >= 1 && device.os->rfind("Linux ", 0) == 0, "what the kernel tells");
}

void pc(const path& root) {
  write(root / "proc/cpuinfo", "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n");
  const Device device = describe_device(root);
  check::that(!device.name && device.soc == "AMD EPYC", "a PC's processor");
}

void emulated(const path& root) {
  write(root / "proc/cpuinfo", "model name\t: AMD EPYC\n");
  write(root / "proc/sys/kernel/arch", "s390x\n");
  const Device device = describe_device(root);
  check::that(device.emulated == "qemu-user" && device.emulates_instructions(), "a kernel of another architecture");
  check::that(!device.soc && !device.name, "the host's processor is not the emulated one");
}

void emulator_runs_it(const path& root) {
  std::filesystem::create_directories(root / "proc/self");
  std::filesystem::create_directories(root / "proc/thread-self");
  std::filesystem::create_symlink("/bin/program", root / "proc/self/exe");
  std::filesystem::create_symlink("/usr/bin/qemu-aarch64-static", root / "proc/thread-self/exe");
  check::that(describe_device(root).emulates_instructions(), "another program than it is told");
}

void thermal(const path& root) {
  check::that(!celsius(root), "no thermal zone");
  zone(root, 0, "iwlwifi_1", "30000");
  check::that(!celsius(root), "no zone of the processor");
  zone(root, 10, "gpu-soc-thermal", "70000");
  zone(root, 2, "CPU-therm", "41250");
  check::that(celsius(root) == 41.25, "the first zone of the processor");
}

void memory(const path& root) {
  check::that(!peak_mb(root), "no status");
  write(root / "proc/self/status", "VmPeak:\t  900000 kB\nVmHWM:\t  125000 kB\n");
  check::that(peak_mb(root) == 128, "10^6 bytes");
  const auto here = peak_mb("/");
  check::that(here && *here > 0.5 && *here < 1000, "this process");
}

}  // namespace

int main(int, char** arguments) {
  const path scratch = arguments[1];
  std::filesystem::remove_all(scratch);
  board(scratch / "board");
  pc(scratch / "pc");
  emulated(scratch / "emulated");
  emulator_runs_it(scratch / "emulator");
  thermal(scratch / "thermal");
  memory(scratch / "memory");
  return check::failures == 0 ? 0 : 1;
}
