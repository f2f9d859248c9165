/** What the Files view shows: kept in the address, so that a reload and a link show the same. */
import { h } from "../dom";
import { personOf, type Session } from "../session";
import type { Filters } from "./rows";

const STATUSES = ["uploading", "uploaded", "processing", "completed", "failed", "cancelled", "expired"];
/** How long after the last key the list is asked for. */
const QUIET_MS = 250;

/** The form; `changed` is told what to ask the service for. */
export function makeFilters(
  session: Session,
  changed: (filters: Filters) => void,
): {
  element: HTMLFormElement;
  current: () => Filters;
} {
  const given = new URLSearchParams(location.hash.split("?")[1] ?? "");
  const field = (name: string, label: string, type: string): HTMLElement =>
    h("label", {}, h("span", {}, label), h("input", { name, type, autocomplete: "off" }));
  const mine = whoseLabel(session);
  const status = h(
    "select",
    { name: "status" },
    h("option", { value: "" }, "any"),
    ...STATUSES.map((name) => h("option", { value: name }, name)),
  );
  const element = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filter files" },
    field("name", "Name", "search"),
    field("folder", "Folder", "search"),
    h("label", {}, h("span", {}, "Status"), status),
    field("from", "From", "date"),
    field("to", "To", "date"),
    mine !== null &&
      h(
        "label",
        { class: "check" },
        h("input", { name: "mine", type: "checkbox", value: "true" }),
        h("span", {}, mine),
      ),
    h("button", { type: "reset" }, "Clear"),
  );
  // Not as attributes: those would be what Clear goes back to.
  for (const [name, value] of given) {
    const control = element.elements.namedItem(name);
    if (control instanceof HTMLInputElement && control.type === "checkbox")
      control.checked = value === "true";
    else if (control instanceof HTMLInputElement || control instanceof HTMLSelectElement)
      control.value = value;
  }
  let timer = 0;
  const tell = (): void => {
    const values = valuesOf(element);
    const query = new URLSearchParams(values).toString();
    history.replaceState(null, "", query ? `#files?${query}` : "#files");
    changed(asked(values));
  };
  const soon = (): void => {
    clearTimeout(timer);
    timer = window.setTimeout(tell, QUIET_MS);
  };
  element.addEventListener("input", soon);
  element.addEventListener("reset", soon);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    tell();
  });
  return { element, current: () => asked(valuesOf(element)) };
}

/** What "mine" means to whoever is here; null where everything is everybody's. */
function whoseLabel(session: Session): string | null {
  if (personOf(session) !== null) return "Only mine";
  return session.owner.startsWith("visitor:") ? "From this browser" : null;
}

function valuesOf(form: HTMLFormElement): Filters {
  const entries = [...new FormData(form)].map(([name, value]): [string, string] => [
    name,
    typeof value === "string" ? value.trim() : "",
  ]);
  return Object.fromEntries(entries.filter(([, value]) => value !== ""));
}

/** As the service asks: days are the reader's own, and the last one counts whole. */
function asked(values: Filters): Filters {
  const { folder, from, to, ...rest } = values;
  return {
    ...rest,
    ...(folder ? { path: folder } : {}),
    ...(from ? { from: midnight(from, 0) } : {}),
    ...(to ? { to: midnight(to, 1) } : {}),
  };
}

function midnight(day: string, later: number): string {
  const [year = 0, month = 1, date = 1] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later).toISOString();
}
