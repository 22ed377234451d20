// What is known of the run: its curves and a line about each tree. More may come while the page is open.

export function emptyRun() {
  return { title: "", selection: "", unread: 0, metrics: [], prompts: [] };
}

// Takes in what a source knows; "whole" says that it replaces all that was known.
export function take(run, found) {
  if (found.whole) Object.assign(run, { metrics: [], prompts: [] });
  for (const name of ["title", "selection", "unread"]) if (found[name] !== undefined) run[name] = found[name];
  run.metrics = run.metrics.concat(found.metrics ?? []);
  const known = new Map(run.prompts.map((one) => [one.number, one]));
  const fresh = found.prompts.filter((one) => !known.has(one.number));
  if (fresh.length) run.prompts = run.prompts.concat(fresh).sort((one, other) => one.number - other.number);
}

export function stepsOf(run) {
  return [...new Set([...run.prompts, ...(run.unread ? run.metrics : [])].map((one) => one.step))].sort((one, other) => one - other);
}

export function metricNames(run) {
  return [...new Set(run.metrics.flatMap(Object.keys))].filter((name) => name !== "step").sort();
}

// What the filters offer: every outcome, tool and status that occurs.
export function offered(run) {
  const all = (values) => [["", "all"], ...[...new Set(values)].sort().map((value) => [value, value.replaceAll("_", " ")])];
  return { outcome: all(run.prompts.flatMap((one) => one.ends.map((end) => end[0]))),
    tool: all(run.prompts.flatMap((one) => one.tools)), status: all(run.prompts.flatMap((one) => one.ends.map((end) => end[1]))) };
}

export function share(run) {
  const ends = run.prompts.flatMap((one) => one.ends);
  const right = ends.filter((end) => end[0] === "right").reduce((sum, end) => sum + end[2], 0);
  return { leaves: ends.reduce((sum, end) => sum + end[2], 0), right };
}
