/** Who is at the page, and the dialog in which they say so where the service asks. */
import { call, Problem } from "./api";
import { h } from "./dom";
import { sentence } from "./words";

/** What the service knows of whoever calls. */
export interface Session {
  /** `user:NAME`, `visitor:ID`, or `local`. */
  owner: string;
  scope: string;
}

/** The name of who is signed in; null for a visitor and on a service that asks nobody. */
export function personOf(session: Session): string | null {
  return session.owner.startsWith("user:") ? session.owner.slice("user:".length) : null;
}

/** Whether signing in would show more: a guest of a service that knows others by name. */
export function isGuest(session: Session): boolean {
  return session.owner.startsWith("visitor") && session.scope !== "operator";
}

/** Return who is here; where the service lets nobody in without a name, ask for the token until it is a good one. */
export async function enter(): Promise<Session> {
  here = await look();
  return here;
}

async function look(): Promise<Session> {
  try {
    return await call<Session>("api/session");
  } catch (error) {
    if (!isUnknown(error)) throw error;
  }
  return requireSignIn();
}

/** For whom the page was made. */
let here: Session | null = null;

/** Look who is here now, and ask where the sign-in is over; then the page goes on, or is made anew for another person.
 *
 * What is being sent goes on meanwhile, with tokens of its own.
 */
export async function enterAgain(): Promise<void> {
  const now = await look();
  if (now.owner === here?.owner) return;
  location.reload();
  await new Promise(() => undefined);
}

/** Do what needs a sign-in; where it is over ask, and do it then. */
export async function whileKnown<T>(job: () => Promise<T>): Promise<T> {
  try {
    return await job();
  } catch (error) {
    if (!isUnknown(error)) throw error;
  }
  await enterAgain();
  return job();
}

export function isUnknown(error: unknown): boolean {
  return error instanceof Problem && error.status === 401;
}

/** End what this browser is signed in by; throws what the service, or the network, has against it. */
export async function signOut(): Promise<void> {
  await call("api/session", { method: "DELETE" });
  location.reload();
}

/** The dialog was closed without a sign-in. */
class NotSignedIn extends Error {}

let asking: Promise<Session> | null = null;

/** Offer to sign in; null when that is declined. */
export async function offerSignIn(): Promise<Session | null> {
  try {
    return await signIn({ mayClose: true });
  } catch (error) {
    if (error instanceof NotSignedIn) return null;
    throw error;
  }
}

/** Ask for a token until there is a good one; also where it was offered just now, and that is declined. */
async function requireSignIn(): Promise<Session> {
  for (;;) {
    try {
      return await signIn({ mayClose: false });
    } catch (error) {
      if (!(error instanceof NotSignedIn)) throw error;
    }
  }
}

/** One dialog for all who ask; the first one says whether it can be closed. */
function signIn(how: { mayClose: boolean }): Promise<Session> {
  asking ??= ask(how).finally(() => (asking = null));
  return asking;
}

function ask({ mayClose }: { mayClose: boolean }): Promise<Session> {
  const dialog = h("dialog", { class: "sign-in", "aria-labelledby": "sign-in-title" });
  const token = h("input", {
    type: "password",
    name: "token",
    autocomplete: "current-password",
    required: true,
  });
  const trouble = h("p", { class: "error", role: "alert" });
  const form = h(
    "form",
    {},
    h("h2", { id: "sign-in-title" }, "Sign in"),
    h("p", {}, "Enter the token that you were given. The browser keeps none of it."),
    h("label", {}, h("span", {}, "Token"), token),
    trouble,
    h(
      "div",
      { class: "actions" },
      h("button", { class: "button" }, "Sign in"),
      mayClose && h("button", { type: "button", onclick: () => dialog.close() }, "Not now"),
    ),
  );
  dialog.append(form);
  dialog.addEventListener("cancel", (event) => {
    if (!mayClose) event.preventDefault();
  });
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      reject(new NotSignedIn());
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      exchange(token.value.trim()).then(
        (session) => {
          resolve(session);
          dialog.close();
        },
        (error: unknown) => {
          trouble.textContent = isUnknown(error) ? "This token is not good, or no longer." : sentence(error);
        },
      );
    });
  });
}

function exchange(token: string): Promise<Session> {
  return call("api/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
}
