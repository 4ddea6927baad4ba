/** What a browser tells of the device that it runs on. */

const DETAILS = ["fullVersionList", "architecture", "bitness", "model"];
const ARCHITECTURES = { x86_64: "x86_64", x86_32: "i686", arm_64: "aarch64", arm_32: "armv7l" };

/** The `device` of a result.json. */
export async function device({ userAgent, userAgentData, platform, hardwareConcurrency }) {
  const told = await userAgentData?.getHighEntropyValues(DETAILS);
  const name = [told?.model, told ? ofBrands(told.fullVersionList) : ofUserAgent(userAgent)].filter(Boolean).join(", ");
  return {
    name,
    os: userAgentData?.platform || platform || null,
    soc: null,
    arch: ARCHITECTURES[`${told?.architecture}_${told?.bitness}`] ?? null,
    cores: hardwareConcurrency,
    emulated: null,
  };
}

/** A Chromium's own name among its brands, one of which is made up so that nobody relies on their order. */
function ofBrands(brands) {
  const real = brands.filter(({ brand }) => !/not.*brand/i.test(brand));
  const { brand, version } = real.find(({ brand }) => brand !== "Chromium") ?? real[0];
  return `${brand} ${version}`;
}

function ofUserAgent(userAgent) {
  const firefox = userAgent.match(/Firefox\/([\d.]+)/);
  if (firefox) return `Firefox ${firefox[1]}`;
  const safari = userAgent.match(/Version\/([\d.]+).* Safari\//);
  return safari ? `Safari ${safari[1]}` : userAgent;
}
