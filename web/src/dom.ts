/** Elements without a framework. Text is always text: nothing here reads HTML. */

export type Child = Node | string | number | null | undefined | false;
type Value = string | number | boolean | null | undefined | ((event: never) => unknown);

/** Make an element; `on...` are listeners, false and null leave an attribute out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, Value> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...shown(children));
  return element;
}

/** Let an element have these children. What says the same in the same place stays, with the focus that it may have. */
export function renew(element: HTMLElement, ...children: HTMLElement[]): void {
  const before = [...element.children];
  for (const [index, child] of children.entries()) {
    const old = before[index];
    if (!old) element.append(child);
    else if (!old.isEqualNode(child)) old.replaceWith(child);
  }
  for (const old of before.slice(children.length)) old.remove();
}

function set(element: HTMLElement, name: string, value: Value): void {
  if (typeof value === "function") {
    element.addEventListener(name.slice(2), value as EventListener);
  } else if (value !== false && value !== null && value !== undefined) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function shown(children: Child[]): (Node | string)[] {
  return children
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "number" ? String(child) : child));
}
