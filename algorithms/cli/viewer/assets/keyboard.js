// Keys: arrows move in the tree, n and p between prompts, ] and [ between steps; w shows the whole path.

export const KEYS = "Keys: arrows move in the tree · n and p: next and previous prompt · ] and [: next and previous step · w: whole path";

export function moved(tree, index, key) {
  const node = tree.nodes[index];
  if (key === "ArrowLeft") return node.parent >= 0 ? node.parent : index;
  if (key === "ArrowRight") return node.children[0] ?? index;
  const level = tree.nodes.filter((one) => depth(tree, one) === depth(tree, node)).map((one) => one.index);
  const place = level.indexOf(index) + (key === "ArrowDown" ? 1 : -1);
  return level[place] ?? index;
}

function depth(tree, node) {
  let count = 0;
  for (let at = node.parent; at >= 0; at = tree.nodes[at].parent) count++;
  return count;
}

export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|INPUT|PRE)$/.test(event.target.tagName)) return;
    const inTree = event.target === document.body || event.target.closest?.(".tree");
    const action = event.key.startsWith("Arrow") ? inTree && actions.arrow : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event.key);
  });
}
