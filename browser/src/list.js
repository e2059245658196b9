// A doubly linked list. Its members are the objects themselves: each has the fields `list`, `prev`
// and `next`, and is in one list at most. So a member is added and removed in the same short time,
// however long the list is.

export class List {
  length = 0; first = null; last = null;

  push(member) {
    member.list = this;
    member.prev = this.last;
    if (this.last) this.last.next = member;
    else this.first = member;
    this.last = member;
    this.length++;
  }

  unshift(member) {
    member.list = this;
    member.next = this.first;
    if (this.first) this.first.prev = member;
    else this.last = member;
    this.first = member;
    this.length++;
  }

  /** Takes a member out. It has to be in this list. */
  remove(member) {
    const { prev, next } = member;
    if (prev) prev.next = next;
    else this.first = next;
    if (next) next.prev = prev;
    else this.last = prev;
    member.list = member.prev = member.next = null;
    this.length--;
  }

  /** Takes the first member out and returns it, or null if there is none. */
  shift() {
    const { first } = this;
    if (first) this.remove(first);
    return first;
  }

  /** The members in their order. The one that is visited may be removed meanwhile, and no other. */
  * [Symbol.iterator]() {
    for (let member = this.first, next; member; member = next) {
      next = member.next;
      yield member;
    }
  }
}
