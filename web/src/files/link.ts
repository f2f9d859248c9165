/** An address that opens one file for whoever has it, for a while. */
import { call, type FileRecord } from "../api";
import { h } from "../dom";
import { time } from "../format";
import { sentence } from "../words";

const HOUR = 3600;
const LASTS: readonly (readonly [label: string, seconds: number])[] = [
  ["an hour", HOUR],
  ["a day", 24 * HOUR],
  ["a week", 7 * 24 * HOUR],
  ["a month", 30 * 24 * HOUR],
];

interface Link {
  url: string;
  expires_at: string;
}

/** The form that makes one. */
export function makeLinkForm(record: FileRecord): HTMLFormElement {
  const lasts = h(
    "select",
    { name: "lasts" },
    ...LASTS.map(([label, seconds]) => h("option", { value: seconds }, label)),
  );
  lasts.value = String(24 * HOUR);
  const result = h("div", { class: "made", role: "status" });
  const form = h(
    "form",
    { class: "link" },
    h("label", {}, h("span", {}, "Anybody may open it for"), lasts),
    h("button", {}, "Make a link"),
    result,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    make(record, Number(lasts.value)).then(
      (link) => result.replaceChildren(...shown(link)),
      (error: unknown) => result.replaceChildren(h("p", { class: "error" }, sentence(error))),
    );
  });
  return form;
}

function make(record: FileRecord, expires_in: number): Promise<Link> {
  return call(`api/records/${record.id}/links`, { method: "POST", json: { expires_in } });
}

function shown(link: Link): HTMLElement[] {
  const address = h("input", { readonly: true, value: link.url, "aria-label": "Link" });
  const copy = h("button", { type: "button", onclick: () => copyFrom(address, copied) }, "Copy");
  const copied = h("span", {}, `Good until ${time(link.expires_at)}.`);
  return [h("div", { class: "address" }, address, copy), copied];
}

/** Also on plain http names, which have no clipboard of their own: the old way copies what is selected. */
function copyFrom(address: HTMLInputElement, told: HTMLElement): void {
  address.select();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- the only way without a secure context
  told.textContent = document.execCommand("copy") ? "Copied." : "Press Ctrl+C to copy it.";
}
