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
  element: HTMLElement;
  current: () => Filters;
} {
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
  fill(element, queryOfAddress() ?? "");
  let timer = 0;
  const tell = (): void => {
    showInAddress(element);
    changed(asked(valuesOf(element)));
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
  addEventListener("hashchange", () => {
    const query = queryOfAddress();
    if (query === queryOf(element)) return;
    if (query) {
      fill(element, query);
      tell();
    } else showInAddress(element);
  });
  return { element: foldable(element), current: () => asked(valuesOf(element)) };
}

/** On a phone the form would cover half of the list: there it is folded, unless it is in use. */
function foldable(form: HTMLFormElement): HTMLElement {
  const narrow = matchMedia("(width < 44rem)");
  const element = h("details", { class: "fold" }, h("summary", {}, "Filter"), form);
  const fit = (): boolean => (element.open = !narrow.matches || queryOf(form) !== "");
  narrow.addEventListener("change", fit);
  fit();
  return element;
}

/** What "mine" means to whoever is here; null where everything is everybody's. */
function whoseLabel(session: Session): string | null {
  if (personOf(session) !== null) return "Only mine";
  return session.owner.startsWith("visitor:") ? "From this browser" : null;
}

/** What the address says of the list: null in another view. */
function queryOfAddress(): string | null {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return view === "files" ? query : null;
}

/** The link to the list has no filters: what the form has counts. */
function showInAddress(form: HTMLFormElement): void {
  const query = queryOf(form);
  if (queryOfAddress() !== null) history.replaceState(null, "", query ? `#files?${query}` : "#files");
}

function queryOf(form: HTMLFormElement): string {
  return new URLSearchParams(valuesOf(form)).toString();
}

function fill(form: HTMLFormElement, query: string): void {
  const given = new URLSearchParams(query);
  // Not as attributes: those would be what Clear goes back to.
  for (const control of form.elements) {
    if (control instanceof HTMLInputElement && control.type === "checkbox")
      control.checked = given.get(control.name) === "true";
    else if (control instanceof HTMLInputElement || control instanceof HTMLSelectElement)
      control.value = given.get(control.name) ?? "";
  }
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
