// What a client can be asked to do, by name, and how it tells what came of it.

const MAX_PROBLEM = 5000;
const operations = new Map();

// Registers an operation under its name; `since` is the first release that has what it uses.
export function operation(name, ...rest) {
  operations.set(name, rest.at(-1));
}

// Runs the wanted operations in order and prints how each went, one JSON line each.
export async function report(world, wanted) {
  for (const name of wanted) {
    const begun = performance.now();
    let problem = null;
    try {
      await operations.get(name)(world);
    } catch (error) {
      problem = `${error.stack ?? error}\ncause: ${error.cause?.stack ?? "none"}`.slice(0, MAX_PROBLEM);
    }
    const seconds = Math.round(performance.now() - begun) / 1000;
    console.log(JSON.stringify({ operation: name, problem, seconds }));
  }
}
