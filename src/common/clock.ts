import { Injectable } from '@nestjs/common';

/** What time it is: a dependency, so that tests can set it. */
@Injectable()
export class Clock {
  now(): Date {
    return new Date();
  }
}
