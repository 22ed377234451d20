// What is computed from a tree: children, leaves below, value, group-relative reward, success rate.

export function enriched(tree) {
  const { nodes } = tree;
  nodes.forEach((node, index) => Object.assign(node, { index, children: [], below: [], text: node.text ?? "" }));
  for (const node of nodes) if (node.parent >= 0) nodes[node.parent].children.push(node.index);
  const leaves = nodes.filter((node) => node.outcome !== undefined);
  for (const leaf of leaves) for (const node of path(tree, leaf.index)) node.below.push(leaf.index);
  const totals = leaves.map((leaf) => leaf.total);
  const centre = mean(totals) ?? 0;
  const spread = Math.sqrt(mean(totals.map((total) => (total - centre) ** 2)) ?? 0);
  leaves.forEach((leaf, ordinal) => (leaf.ordinal = ordinal + 1));
  for (const node of nodes) {
    node.value = mean(node.below.map((leaf) => nodes[leaf].total));
    node.relative = node.value === null ? null : spread > 0 ? (node.value - centre) / spread : 0;
    const judged = node.below.filter((leaf) => nodes[leaf].outcome !== "failed");
    node.success = mean(judged.map((leaf) => (nodes[leaf].outcome === "right" ? 1 : 0)));
  }
  return { ...tree, leaves: leaves.map((leaf) => leaf.index) };
}

export function path(tree, index) {
  const found = [];
  for (let at = index; at >= 0; at = tree.nodes[at].parent) found.push(tree.nodes[at]);
  return found.reverse();
}

export function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

// Whether a leaf is as the filters ask; an empty filter asks for nothing.
export function matches(tree, leaf, wanted) {
  const node = tree.nodes[leaf];
  if (wanted.outcome && node.outcome !== wanted.outcome) return false;
  if (wanted.status && node.status !== wanted.status) return false;
  return !wanted.tool || path(tree, leaf).some((one) => one.tool === wanted.tool);
}

export function summaryMatches(prompt, wanted) {
  const ends = prompt.ends.some(([outcome, status]) =>
    (!wanted.outcome || outcome === wanted.outcome) && (!wanted.status || status === wanted.status));
  return ends && (!wanted.tool || prompt.tools.includes(wanted.tool));
}

// A colour between red (-1), grey (0) and blue (1); told apart by people who see no red or green, too.
export function colour(score) {
  if (score === null || score === undefined) return "var(--none)";
  const bounded = Math.max(-1, Math.min(1, score));
  const name = bounded < 0 ? "--low" : "--high";
  return `color-mix(in oklab, var(${name}) ${Math.round(Math.abs(bounded) * 100)}%, var(--middle))`;
}

export function scores(tree, by) {
  if (by === "relative") return tree.nodes.map((node) => (node.relative === null ? null : node.relative / 2));
  const values = tree.leaves.map((leaf) => tree.nodes[leaf].total);
  const most = Math.max(1, ...values.map(Math.abs));
  return tree.nodes.map((node) => (node.value === null ? null : node.value / most));
}
