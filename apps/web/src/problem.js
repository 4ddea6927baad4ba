/** What is wrong and how it is mended, in one sentence for whoever is at the page. */
export class Problem extends Error {
  name = "Problem";
}

/** What to say of any error: of one that nobody foresaw, the name that the browser has for it too. */
export function sentence(error) {
  return error instanceof Problem ? error.message : `${error.name}: ${error.message}`;
}
